//! What the scheduler is asked for over its socket and its port, and what it refuses.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixListener,
};

use serde_json::Value;

use super::cluster::{Cluster, KEY, answer, ask, job, options};
use crate::support::{Bench, code, finish, stderr, stdout, wait_for};

#[test]
fn mistakes_are_refused_with_their_place() {
    let cluster = Cluster::new(options());
    let text = "
instances: 0
servce: true
constraints: {host: 'limit:0'}
cron_schedule: '* * * * *'
task:
  resources: {cpu: 1}
  processes: [{name: a, cmdline: 'true'}]
";
    let file = cluster.bench.file("bad.yaml", text);
    let output = cluster.dewar(&["job", "create", &file.display().to_string()]);
    assert_eq!(code(&output), 2);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = said.replace(&cluster.bench.path().display().to_string(), "DIR");
    insta::assert_snapshot!("mistakes_of_a_job", said);
    // A mistake in the task, which is in a file of its own.
    cluster.bench.file(
        "task.yaml",
        "processes: [{name: a/b, cmdline: x}]\nresources: {cpu: 1}\n",
    );
    let file = cluster.bench.file("job.yaml", "task: task.yaml\n");
    let output = cluster.dewar(&["job", "create", &file.display().to_string()]);
    assert_eq!(code(&output), 2);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("task.yaml:1:20"), "{said}");
    // An unknown job, with one near it.
    cluster.create(&job(1));
    let output = cluster.dewar(&["job", "status", "www/prod/wbe"]);
    assert_eq!(code(&output), 1);
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr), @"
    error: there is no job www/prod/wbe
    hint: did you mean www/prod/web?
    ");
    let output = cluster.dewar(&["job", "create", &cluster.file("again.yaml", &job(1))]);
    assert_eq!(code(&output), 2);
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr), @"
    error: there is a job www/prod/web already
    hint: to change it: dewar job update
    ");
}

#[test]
fn the_port_is_for_those_who_know_the_token() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let cluster = Cluster::with(options(), &["--listen", &address]);
    cluster.create(&job(2));
    let token = wait_for("the token", || {
        fs::read_to_string(cluster.bench.root().join("scheduler/token")).ok()
    });
    let token = token.trim();
    let ask = |head: &str| {
        let stream = std::net::TcpStream::connect(&address).expect("the scheduler");
        answer(stream, &format!("{head}\r\n\r\n"))
    };
    let host = format!("Host: {address}");
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(ask(&format!("GET /jobs HTTP/1.1\r\n{host}")).0, 401);
    assert_eq!(
        ask(&format!("GET /jobs HTTP/1.1\r\nHost: evil\r\n{bearer}")).0,
        421
    );
    let foreign = format!("GET /jobs HTTP/1.1\r\n{host}\r\n{bearer}\r\nOrigin: http://evil");
    assert_eq!(ask(&foreign).0, 403);
    let (status, jobs) = ask(&format!("GET /jobs HTTP/1.1\r\n{host}\r\n{bearer}"));
    assert_eq!(
        (status, &jobs["jobs"][0]["totals"]["running"]),
        (200, &Value::from(2))
    );
    let (status, body) = ask(&format!(
        "GET /jobs/www/prod/webb HTTP/1.1\r\n{host}\r\n{bearer}"
    ));
    assert_eq!(status, 404);
    assert_eq!(body["hint"], "did you mean www/prod/web?");
    assert_eq!(
        ask(&format!("GET /../etc HTTP/1.1\r\n{host}\r\n{bearer}")).0,
        404
    );
    assert_eq!(
        ask(&format!("PUT /jobs/a/b/c HTTP/1.1\r\n{host}\r\n{bearer}")).0,
        405
    );
    let (_, metrics) = ask(&format!("GET /metrics HTTP/1.1\r\n{host}\r\n{bearer}"));
    let metrics = metrics.as_str().expect("text").to_owned();
    for line in [
        "dewar_scheduler_instances{state=\"running\"} 2",
        "dewar_scheduler_launches_total 2",
        "dewar_scheduler_latency_seconds_count{until=\"running\"} 2",
        "dewar_scheduler_connected 1",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    // `dewar job` finds the token beside the scheduler.
    let told = cluster.job(&["--scheduler", &address, "status"]);
    assert!(told.contains("2/2 running"), "{told}");
}

#[test]
fn a_submission_over_the_wire_is_refused_with_places() {
    let cluster = Cluster::new(options());
    let socket = cluster.bench.root().join("scheduler/socket");
    let body =
        serde_json::json!({"job": "instances: many\ntask: {processes: []}\n", "role": "www"});
    let body = body.to_string();
    let request = format!(
        "POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (status, told) = ask(&socket, &request);
    assert_eq!(status, 400);
    assert_eq!(told["mistakes"][0]["line"], 1);
    assert_eq!(told["mistakes"][0]["column"], 12);
}

/// A misspelt field once meant no field, and `kill` without instances ends all of them.
#[test]
fn a_request_with_a_mistake_is_refused_and_does_nothing() {
    let cluster = Cluster::new(options());
    cluster.create(&job(3));
    cluster.job(&["quota", "www", "--ram", "10GiB"]);
    let socket = cluster.bench.root().join("scheduler/socket");
    let send = |method: &str, path: &str, body: &str| {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}");
        ask(&socket, &format!("{head}\r\n\r\n{body}"))
    };
    let look = || {
        let (_, job) = send("GET", &format!("/jobs/{KEY}"), "");
        let (_, quotas) = send("GET", "/quotas", "");
        let (_, agents) = send("GET", "/agents", "");
        (job, quotas, agents)
    };
    let before = (look(), cluster.tasks());
    let of_job = |verb: &str| format!("/jobs/{KEY}/{verb}");
    for (path, body, near) in [
        (of_job("kill"), r#"{"instnaces":"2"}"#, "instances"),
        (of_job("restart"), r#"{"instnaces":"2"}"#, "instances"),
        (of_job("scale"), r#"{"count":5,"cuont":4}"#, "count"),
        ("/agents/one/drain".to_owned(), r#"{"ovr":true}"#, "over"),
    ] {
        let (status, told) = send("POST", &path, body);
        assert_eq!(status, 400, "{path}: {told}");
        assert_eq!(told["hint"], format!("did you mean `{near}`?"), "{path}");
    }
    let (status, told) = send("PUT", "/quotas/www", r#"{"rma":"1GiB"}"#);
    assert_eq!(
        (status, &told["hint"]),
        (400, &Value::from("did you mean `ram`?"))
    );
    for (method, path, body, expected) in [
        ("POST", of_job("kill"), r#"{"instances":2}"#, 400),
        ("POST", of_job("kill"), r#"["2"]"#, 400),
        ("POST", of_job("kill"), r#"{"instances":"2"} 2"#, 400),
        (
            "POST",
            of_job("kill"),
            r#"{"instances":"2","instances":"1"}"#,
            400,
        ),
        ("POST", of_job("kill?instances=2"), "", 400),
        ("POST", of_job("abort"), r#"{"instances":"2"}"#, 400),
        ("DELETE", "/quotas/www".to_owned(), r#"{"ram":"1GiB"}"#, 400),
        ("PUT", of_job("kill"), "", 405),
        ("POST", of_job("klil"), "", 404),
    ] {
        let (status, told) = send(method, &path, body);
        assert_eq!(status, expected, "{method} {path} {body}: {told}");
    }
    assert_eq!((look(), cluster.tasks()), before);
    // Spelt right it ends one instance.
    assert_eq!(send("POST", &of_job("kill"), r#"{"instances":"2"}"#).0, 200);
    cluster.has_exactly(KEY, 2);
}

#[test]
fn what_makes_no_sense_is_refused_before_it_does_harm() {
    let cluster = Cluster::new(options());
    let refused = |words: &[&str]| {
        let output = cluster.dewar(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(&output), 2, "{words:?}: {said}");
        said
    };
    // A few hundred kilobytes that would become gigabytes.
    let bomb = format!(
        "task:\n  resources: {{cpu: 1, ram: 1MiB, disk: 1MiB}}\n  x: &x {}\n  y: [{}]\n",
        "x".repeat(100_000),
        "*x, ".repeat(10_000)
    );
    let said = refused(&["job", "create", &cluster.file("bomb.yaml", &bomb)]);
    assert!(said.contains("too many values"), "{said}");
    let large = job(1).replace("sleep 1000", &format!("sleep 1; #{}", "x".repeat(2 << 20)));
    let said = refused(&["job", "create", &cluster.file("large.yaml", &large)]);
    assert!(said.contains("every instance is sent all of it"), "{said}");
    refused(&["job", "quota", "www", "--cpu", "nan"]);
    refused(&["job", "quota", "www", "--cpu", "-1e300"]);
    refused(&["job", "quota", "w\x1b[31mw", "--cpu", "1"]);
    refused(&["job", "status", "www/prod"]);
    refused(&["job", "status", "www//web"]);
    refused(&["job", "drain", "a/b"]);
    refused(&["job", "kill", "www/prod/web", "--instances", ""]);
    let around = format!(
        "{}health_check_config: {{health_checker: {{htpp: {{}}}}, intervall_secs: 3}}\nlifecycle: {{http: {{port: helath}}}}\n",
        job(1)
    );
    let said = refused(&["job", "create", &cluster.file("around.yaml", &around)]);
    for what in ["`htpp`", "`intervall_secs`"] {
        assert!(said.contains(what), "{what} in {said}");
    }
    let portless = format!("{}lifecycle: {{http: {{}}}}\n", job(1));
    let said = refused(&["job", "create", &cluster.file("portless.yaml", &portless)]);
    assert!(
        said.contains("there is no port `health` for this"),
        "{said}"
    );
    refused(&[
        "job",
        "kill",
        "www/prod/web",
        "--instances",
        "0-99999,0-99999",
    ]);
    let precious = cluster.file("precious", "keep");
    let output = cluster.dewar_elsewhere(&[
        "scheduler",
        "--master",
        "127.0.0.1:1",
        "--listen",
        &precious,
    ]);
    assert_eq!(code(&output), 1);
    assert_eq!(fs::read_to_string(&precious).expect("a file"), "keep");
}

/// A scheduler that answers each request, in turn, with one of these.
fn answering(listener: UnixListener, answers: Vec<(u16, Value)>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for (status, body) in answers {
            let (stream, _) = listener.accept().expect("a client");
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            let mut length = 0;
            while reader.read_line(&mut line).expect("a head") > 2 {
                let lower = line.to_ascii_lowercase();
                if let Some(text) = lower.strip_prefix("content-length:") {
                    length = text.trim().parse().expect("a length");
                }
                line.clear();
            }
            let mut sent = vec![0; length];
            std::io::Read::read_exact(&mut reader, &mut sent).expect("a body");
            let body = body.to_string();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}", body.len());
            let mut stream = reader.into_inner();
            write!(stream, "{head}\r\n\r\n{body}").expect("an answer");
        }
    })
}

/// On a busy machine the job may be gone before its client watches it.
#[test]
fn a_job_that_is_gone_before_it_is_watched_is_said_to_be_gone() {
    for (format, wanted) in [
        ("text", "www/prod/web: 3 instances to end\nit is gone\n"),
        ("json", "{\"gone\":true,\"key\":\"www/prod/web\"}\n"),
    ] {
        let bench = Bench::new();
        let socket = bench.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let begun = serde_json::json!({"key": KEY, "message": "3 instances to end"});
        let unknown = serde_json::json!({"error": "there is no job www/prod/web"});
        let answers = answering(listener, vec![(200, begun), (404, unknown)]);
        let at = socket.display().to_string();
        let words = ["job", "--scheduler", &at, "kill", KEY, "--format", format];
        let output = finish(bench.dewar(&words).spawn().expect("dewar"));
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert_eq!(stdout(&output), wanted);
        answers.join().expect("both requests");
    }
}
