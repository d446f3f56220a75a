//! The scope that systemd gives on a desktop, from a systemd that is played here: it speaks D-Bus, makes the cgroup, and
//! moves the process. What the real one does beyond that is not tested.

use std::{
    collections::HashMap,
    fs,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use zbus::{
    blocking::{Connection, connection::Builder},
    interface,
    zvariant::{OwnedObjectPath, OwnedValue},
};

/// What was asked of it.
pub type Asked = Arc<Mutex<Vec<(String, HashMap<String, OwnedValue>)>>>;

/// The part of a bus that a client wants to see.
struct Bus;

#[interface(name = "org.freedesktop.DBus")]
impl Bus {
    fn hello(&self) -> String {
        ":1.1".to_owned()
    }

    fn add_match(&self, _rule: String) {}

    fn remove_match(&self, _rule: String) {}
}

struct Manager {
    asked: Asked,
    groups: PathBuf,
}

/// Properties as they come: name and value.
type Properties = Vec<(String, OwnedValue)>;
/// Units that are to be made along with it: none.
type Auxiliary = Vec<(String, Properties)>;

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn subscribe(&self) {}

    #[zbus(out_args("job"))]
    async fn start_transient_unit(
        &self,
        name: String,
        _mode: String,
        properties: Properties,
        _auxiliary: Auxiliary,
        #[zbus(connection)] bus: &zbus::Connection,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        let properties: HashMap<String, OwnedValue> = properties.into_iter().collect();
        let pids = properties["PIDs"].try_clone().expect("a value");
        let pids: Vec<u32> = pids.try_into().expect("pids");
        let group = self.groups.join(&name);
        fs::create_dir(&group).expect("a group");
        for pid in pids {
            fs::write(group.join("cgroup.procs"), pid.to_string()).expect("moved");
        }
        self.asked
            .lock()
            .expect("a lock")
            .push((name.clone(), properties));
        let job = OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/7").expect("a path");
        let bus = bus.clone();
        let ended = (7u32, job.clone(), name, "done");
        bus.emit_signal(
            None::<&str>,
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            "JobRemoved",
            &ended,
        )
        .await
        .expect("a signal");
        Ok(job)
    }
}

/// Answers its clients at `socket`; scopes become groups in `groups`.
pub fn play(socket: &Path, groups: &Path) -> Asked {
    let asked = Asked::default();
    let listener = UnixListener::bind(socket).expect("a socket");
    let (told, groups) = (Arc::clone(&asked), groups.to_path_buf());
    std::thread::spawn(move || {
        // Kept until the test is over.
        let mut connections: Vec<Connection> = Vec::new();
        for stream in listener.incoming() {
            let manager = Manager {
                asked: Arc::clone(&told),
                groups: groups.clone(),
            };
            let connection = Builder::async_io_unix_stream(stream.expect("a client"))
                .server(zbus::Guid::generate())
                .expect("a guid")
                .p2p()
                .serve_at("/org/freedesktop/DBus", Bus)
                .expect("an interface")
                .serve_at("/org/freedesktop/systemd1", manager)
                .expect("an interface")
                .build()
                .expect("a connection");
            connections.push(connection);
        }
    });
    asked
}
