// The master, the agent and the container launcher of Mesos 1.11.0, whose code is all in one shared
// library (see install.py). Which of them this program is, its name says.
//
// There are no headers for that library, so what is called is declared here by hand. Names, base
// classes and sizes have to agree with the library's binary interface and nothing else has to:
// objects that only the library looks into are built by its own constructors in plenty of zeroed
// memory, and never destroyed.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <new>
#include <string>
#include <vector>

#undef unix  // a macro of GNU dialects, a namespace below

using std::string;

// Value types of stout, whose layouts we have to know.
template <typename T>
struct Option {
  Option() : is_none(1) {}
  Option(const T& value) : is_none(0) { new (room) T(value); }
  Option(const Option&) = delete;
  ~Option() {
    if (!is_none) get().~T();
  }
  T& get() { return *std::launder(reinterpret_cast<T*>(room)); }
  int is_none;
  alignas(T) unsigned char room[sizeof(T)];
};
struct Error {
  string message;
};
template <typename T>
struct Try {
  ~Try() {}
  Option<T> value;
  Option<Error> error;
};
class Duration {
 public:
  int64_t nanoseconds;
};

namespace flags {
struct Warning {
  string message;
};
struct Warnings {
  std::vector<Warning> warnings;
};
class FlagsBase {
 public:
  FlagsBase();
  virtual ~FlagsBase();
  Try<Warnings> load(const Option<string>& prefix, int argc, const char* const* argv,
                     bool unknowns, bool duplicates);

 private:
  unsigned char rest[176];
};
static_assert(sizeof(FlagsBase) == 184, "the size that the library gives it");
}  // namespace flags

namespace process {
// Has a destructor so that it is returned through memory, as the library does it.
class UPID {
 public:
  ~UPID() {}

 private:
  alignas(16) unsigned char rest[1024];
};
class ProcessBase {
 public:
  virtual ~ProcessBase();

 private:
  int data;  // without data it would become the primary base of its heirs
};
template <typename T>
class Process : public virtual ProcessBase {};
template <typename T>
class Owned {
  std::shared_ptr<void> data;
};
namespace network {
namespace unix {
class Address;
}
namespace internal {
class SocketImpl;
class PollSocketImpl {
 public:
  static Try<std::shared_ptr<SocketImpl>> create(int fd);
};
template <typename Address>
class Socket {
 public:
  std::shared_ptr<SocketImpl> impl;
};
}  // namespace internal
}  // namespace network
bool initialize(const Option<string>& delegate, const Option<string>& readwrite,
                const Option<string>& readonly);
UPID spawn(ProcessBase*, bool manage);
bool wait(const UPID&, const Duration&);
}  // namespace process

template <typename T>
class ProtobufProcess : public process::Process<T> {};

class Subcommand {
 public:
  explicit Subcommand(const string& name) : name(name) {}
  virtual ~Subcommand();
  virtual int execute() = 0;
  virtual flags::FlagsBase* getFlags();

 private:
  string name;
  flags::FlagsBase own;
};

namespace mesos {
class Authorizer;
class SecretGenerator {
 public:
  virtual ~SecretGenerator();
};
namespace authentication {
namespace executor {
class JWTSecretGenerator : public SecretGenerator {
 public:
  explicit JWTSecretGenerator(const string& key);
};
}  // namespace executor
}  // namespace authentication
class SecretResolver {
 public:
  static Try<SecretResolver*> create(const Option<string>&);
};
namespace allocator {
class Allocator;
}
namespace master {
namespace detector {
class MasterDetector {
 public:
  static Try<MasterDetector*> create(const Option<string>& master, const Option<string>& module,
                                     const Option<Duration>& timeout);
};
}  // namespace detector
}  // namespace master
namespace slave {
class ResourceEstimator {
 public:
  static Try<ResourceEstimator*> create(const Option<string>&);
};
class QoSController {
 public:
  static Try<QoSController*> create(const Option<string>&);
};
}  // namespace slave

namespace internal {
class Files {
 public:
  Files(const Option<string>& realm, const Option<Authorizer*>&);
};
class PendingFutureTracker;
class VersionProcess : public process::Process<VersionProcess> {
 public:
  VersionProcess();
};
namespace logging {
class Flags : public virtual flags::FlagsBase {
  int data;  // as in ProcessBase
};
void initialize(const string& argv0, bool signals, const Option<Flags>&);
}  // namespace logging
namespace local {
class Flags : public virtual logging::Flags {
 public:
  Flags();
};
process::UPID launch(const Flags&, allocator::Allocator*);
}  // namespace local
namespace slave {
class Flags : public virtual logging::Flags {
 public:
  Flags();
};
class GarbageCollector {
 public:
  explicit GarbageCollector(const string&);
};
class TaskStatusUpdateManager {
 public:
  explicit TaskStatusUpdateManager(const Flags&);
};
class Fetcher {
 public:
  explicit Fetcher(const Flags&);
};
class VolumeGidManager;
class CSIServer;
class Containerizer {
 public:
  static Try<Containerizer*> create(const Flags&, bool local, Fetcher*, GarbageCollector*,
                                    SecretResolver*, VolumeGidManager*, PendingFutureTracker*,
                                    CSIServer*);
};
class Slave : public ProtobufProcess<Slave> {
 public:
  using Socket = process::network::internal::Socket<process::network::unix::Address>;
  Slave(const string& id, const Flags&, mesos::master::detector::MasterDetector*, Containerizer*,
        Files*, GarbageCollector*, TaskStatusUpdateManager*, mesos::slave::ResourceEstimator*,
        mesos::slave::QoSController*, SecretGenerator*, VolumeGidManager*, PendingFutureTracker*,
        process::Owned<CSIServer>&&, const Option<Socket>&, const Option<Authorizer*>&);
};
class MesosContainerizerLaunch : public Subcommand {
 public:
  struct Flags {  // reached through getFlags() only
    Flags();
    alignas(16) unsigned char rest[4096];
  };
  MesosContainerizerLaunch() : Subcommand("launch") {}
  virtual ~MesosContainerizerLaunch();
  virtual int execute();
  virtual flags::FlagsBase* getFlags();
  Flags flags;
};
}  // namespace slave
}  // namespace internal
}  // namespace mesos

namespace {

using AgentSocket = mesos::internal::slave::Slave::Socket;

[[noreturn]] void fail(const string& why) {
  fprintf(stderr, "daemons: %s\n", why.c_str());
  _exit(1);
}

template <typename T, typename... Arguments>
T* build(Arguments&&... arguments) {
  T* built = new (calloc(1, 1 << 20)) T(std::forward<Arguments>(arguments)...);
  // Where its virtual bases are, its vtable says, not our declaration: the optimizer must not know
  // what this points to.
  asm volatile("" : "+r"(built));
  return built;
}

template <typename T>
T need(Try<T> result, const char* what) {
  if (result.value.is_none) fail(string(what) + ": " + result.error.get().message);
  return result.value.get();
}

void read_flags(flags::FlagsBase* flags, const string& prefix, int argc, char** argv,
                bool unknowns) {
  auto result = flags->load(prefix, argc, argv, unknowns, false);
  if (result.value.is_none) fail(result.error.get().message);
}

string flag_of(int argc, char** argv, const string& name) {
  const string start = "--" + name + "=";
  string value;
  for (int i = 1; i < argc; i++)
    if (strncmp(argv[i], start.c_str(), start.size()) == 0) value = argv[i] + start.size();
  return value;
}

void begin(const char* name, const string& id) {
  mesos::internal::logging::initialize(name, true, {});
  process::initialize(id, {}, {});
  process::spawn(build<mesos::internal::VersionProcess>(), true);
}

int until_it_ends(const process::UPID& id) {
  process::wait(id, Duration{-1'000'000'000});
  fflush(nullptr);
  _exit(0);  // the library's destructors are best left alone
}

// The library's local cluster, with no agents in it, is a master. It reads MESOS_* only.
int master(int argc, char** argv) {
  setenv("MESOS_NUM_SLAVES", "0", 1);
  for (int i = 1; i < argc; i++) {
    const string flag = argv[i];
    const size_t equals = flag.find('=');
    if (flag.rfind("--", 0) != 0 || equals == string::npos) fail("expected --NAME=VALUE: " + flag);
    string name = "MESOS_" + flag.substr(2, equals - 2);
    for (char& c : name) c = static_cast<char>(toupper(c));
    setenv(name.c_str(), flag.c_str() + equals + 1, 1);
  }
  auto* flags = build<mesos::internal::local::Flags>();
  read_flags(flags, "MESOS_", 1, argv, true);
  begin(argv[0], "master");
  return until_it_ends(mesos::internal::local::launch(*flags, nullptr));
}

AgentSocket socket_at(const string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) fail("a path too long for a socket: " + path);
  memcpy(address.sun_path, path.c_str(), path.size());
  unlink(path.c_str());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      chmod(path.c_str(), 0666) != 0)
    fail(path + ": " + strerror(errno));
  return {need(process::network::internal::PollSocketImpl::create(fd), "the executors' socket")};
}

mesos::SecretGenerator* signer(const string& path) {
  if (path.empty()) return nullptr;
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("cannot read " + path);
  const string key{std::istreambuf_iterator<char>(file), {}};
  return build<mesos::authentication::executor::JWTSecretGenerator>(key);
}

int agent(int argc, char** argv) {
  using namespace mesos::internal;
  const string id = "slave(1)";
  auto* flags = build<slave::Flags>();
  read_flags(flags, "MESOS_", argc, argv, false);
  begin(argv[0], id);
  auto* collector = build<slave::GarbageCollector>(flag_of(argc, argv, "work_dir"));
  auto* resolver = need(mesos::SecretResolver::create({}), "secrets");
  auto* containerizer =
      need(slave::Containerizer::create(*flags, false, build<slave::Fetcher>(*flags), collector,
                                        resolver, nullptr, nullptr, nullptr),
           "the containerizer");
  auto* detector = need(mesos::master::detector::MasterDetector::create(
                            flag_of(argc, argv, "master"), {}, {}),
                        "the master's address");
  Option<AgentSocket> executors;
  if (flag_of(argc, argv, "http_executor_domain_sockets") == "true")
    new (&executors)
        Option<AgentSocket>(socket_at(flag_of(argc, argv, "domain_socket_location")));
  const Option<mesos::Authorizer*> nobody;
  auto* files = build<Files>(string("mesos-agent-readonly"), nobody);
  process::Owned<slave::CSIServer> storage;
  auto* agent = build<slave::Slave>(
      id, *flags, detector, containerizer, files, collector,
      build<slave::TaskStatusUpdateManager>(*flags),
      need(mesos::slave::ResourceEstimator::create({}), "the estimator"),
      need(mesos::slave::QoSController::create({}), "the controller"),
      signer(flag_of(argc, argv, "jwt_secret_key")), nullptr, nullptr, std::move(storage),
      executors, nobody);
  return until_it_ends(process::spawn(agent, false));
}

int launch(int argc, char** argv) {
  if (argc < 2 || strcmp(argv[1], "launch") != 0) fail("only `launch` is here");
  auto* command = build<mesos::internal::slave::MesosContainerizerLaunch>();
  read_flags(command->getFlags(), "MESOS_CONTAINERIZER_", argc - 1, argv + 1, false);
  return command->execute();
}

}  // namespace

int main(int argc, char** argv) {
  const char* slash = strrchr(argv[0], '/');
  const string name = slash ? slash + 1 : argv[0];
  if (name == "mesos-master") return master(argc, argv);
  if (name == "mesos-agent") return agent(argc, argv);
  if (name == "mesos-containerizer") return launch(argc, argv);
  fail("no daemon is called " + name);
}
