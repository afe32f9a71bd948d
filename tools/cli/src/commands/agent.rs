//! `forebay agent`: takes records in, keeps them, and sends them on, until it is asked to stop.
//!
//! ```text
//! configuration ─► metrics ─► addresses ─► pipeline (75 when locked) ─► listeners ─► "the agent runs"
//!      ... until SIGINT or SIGTERM: listeners end ─► pipeline closes ─► 0
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use forebay::config::{SinkConfig, SinkKind, SyncPolicy};
use forebay::io::real::RealDisk;
use forebay::io::{Disk as _, LOCK_NAME};
use forebay::sink::{Batch, Outcome, Sink};
use forebay::{Config, Pipeline};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{self, Admin};
use crate::args::{Global, VERSION};
use crate::environment;
use crate::exit::{Done, Exit, Failure};
use crate::ingest::unix_socket::{self, SocketFile};
use crate::ingest::{self, Ingest};
use crate::listener::{self, Leaving};
use crate::redact;
use crate::report;
use crate::sinks::ConfiguredSink;
use crate::stop::StopSignals;

/// How long a clean stop may take before the process goes without it.
const CLOSE_MAX: Duration = Duration::from_secs(30);
/// How long tasks that nothing waits for may take to end.
const RUNTIME_END_MAX: Duration = Duration::from_secs(1);

/// Flags of `forebay agent`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Say whether the configuration is right, and go no further
    #[arg(long)]
    check: bool,
}

/// Runs until it is asked to stop.
pub(crate) fn run(args: Args, _global: &Global) -> Done {
    let (config, sink) = read(&args.config)?;
    if args.check {
        report::print(&format!("{} is right\n", args.config.display()))?;
        return Ok(Exit::Done);
    }
    let metrics = admin::metrics::install()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start the threads", error))?;
    let done = runtime.block_on(serve(&config, sink, metrics));
    // A read of standard input can't be ended from outside.
    runtime.shutdown_timeout(RUNTIME_END_MAX);
    done
}

fn read(file: &Path) -> Result<(Config, ConfiguredSink), Failure> {
    let (config, _) = environment::load(file)?;
    let name = file.display();
    let in_file = |error: forebay::Error| Failure::new(Exit::Usage, format!("{name}: {error}"));
    config.check_agent().map_err(in_file)?;
    let sink = ConfiguredSink::new(&config.sinks[0]).map_err(in_file)?;
    Ok((config, sink))
}

async fn serve(config: &Config, sink: ConfiguredSink, metrics: PrometheusHandle) -> Done {
    let mut stop = StopSignals::listen()?;
    // First: an agent whose address is taken leaves no trace in the directory.
    let bound = Bound::of(config).await.map_err(|failure| held_by_another(config).unwrap_or(failure))?;
    let mut pipeline = Pipeline::open(config)?;
    let forwarder = pipeline.forwarder().expect("nobody else has asked");
    let sink_config = &config.sinks[0];
    let forwarding =
        tokio::spawn(forwarder.run(Discreet { sink, secrets: redact::secrets_of(&sink_config.url) }));
    let keeping = tokio::spawn(admin::metrics::keep(metrics.clone()));
    let pipeline = Arc::new(pipeline);
    let (farewell, leaving) = watch::channel(false);
    let (mut tasks, _socket) = listen(config, &pipeline, bound, metrics, leaving);
    stop.asked().await;
    tracing::info!("asked to stop: what was accepted is made durable");
    farewell.send_replace(true);
    while tasks.join_next().await.is_some() {}
    let closed = close(pipeline).await;
    keeping.abort();
    forwarding.abort();
    closed?;
    tracing::info!("stopped");
    Ok(Exit::Done)
}

/// Closes it; gives up after a while, since a device that hangs answers nobody.
async fn close(pipeline: Arc<Pipeline>) -> Result<(), Failure> {
    let pipeline = Arc::into_inner(pipeline).expect("every task that shared it has ended");
    let (sender, closed) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("forebay-close".into())
        .spawn(move || {
            // Nobody listens any more when it took too long.
            let _ = sender.send(pipeline.close());
        })
        .map_err(|error| Failure::io("cannot start a thread to close the store", error))?;
    let waited = tokio::task::spawn_blocking(move || closed.recv_timeout(CLOSE_MAX)).await;
    match waited {
        Ok(Ok(closed)) => Ok(closed?),
        _ => {
            let sentence = format!("the store did not close within {CLOSE_MAX:?}: what was durable is kept");
            Err(Failure::new(Exit::Io, sentence))
        }
    }
}

/// The addresses that are configured, taken.
struct Bound {
    http: Option<TcpListener>,
    tcp: Option<TcpListener>,
    admin: Option<TcpListener>,
    unix: Option<(UnixListener, SocketFile)>,
}

impl Bound {
    async fn of(config: &Config) -> Result<Self, Failure> {
        let unix = config.ingest.unix.as_ref().map(|path| {
            let failed = |error| Failure::create(format!("cannot listen on {}", path.display()), error);
            unix_socket::bind(path).map_err(failed)
        });
        Ok(Self {
            unix: unix.transpose()?,
            http: bind(config.ingest.http.as_deref()).await?,
            tcp: bind(config.ingest.tcp.as_deref()).await?,
            admin: bind(config.admin.listen.as_deref()).await?,
        })
    }
}

/// Who has the addresses of this configuration most likely runs on its directory: then that is to be told.
fn held_by_another(config: &Config) -> Option<Failure> {
    let disk = RealDisk::open(&config.dir, config.disk.direct_io).ok()?;
    disk.names().ok()?.contains(&LOCK_NAME.to_owned()).then_some(())?;
    disk.lock().err().filter(|error| error.kind() == io::ErrorKind::WouldBlock)?;
    let dir = config.dir.display();
    let sentence =
        format!("{dir} is open in another process, which has its addresses too: stop it, or name others");
    Some(Failure::new(Exit::TryAgain, sentence))
}

/// Serves every address, and says once how this agent is set up.
fn listen(
    config: &Config,
    pipeline: &Arc<Pipeline>,
    bound: Bound,
    metrics: PrometheusHandle,
    leaving: Leaving,
) -> (JoinSet<()>, Option<SocketFile>) {
    let ingest = Arc::new(Ingest::new(Arc::clone(pipeline), &config.ingest));
    let Bound { http, tcp, admin, unix } = bound;
    let (unix, socket) = unix.unzip();
    announce(config, pipeline, [&http, &tcp, &admin]);
    let facts = facts(config, pipeline);
    let mut tasks = JoinSet::new();
    if let Some(listener) = http {
        let ingest = Arc::clone(&ingest);
        let serve = move |stream, leaving| ingest::http::serve(Arc::clone(&ingest), stream, leaving);
        tasks.spawn(listener::run(listener, leaving.clone(), serve));
    }
    if let Some(listener) = tcp {
        let ingest = Arc::clone(&ingest);
        let serve = move |stream, leaving| ingest::stream::serve(Arc::clone(&ingest), stream, leaving, false);
        tasks.spawn(listener::run(listener, leaving.clone(), serve));
    }
    if let Some(listener) = unix {
        let ingest = Arc::clone(&ingest);
        let serve = move |stream, leaving| ingest::stream::serve(Arc::clone(&ingest), stream, leaving, false);
        tasks.spawn(listener::run(listener, leaving.clone(), serve));
    }
    if config.ingest.stdin {
        tasks.spawn(ingest::stream::serve(ingest, tokio::io::stdin(), leaving.clone(), true));
    }
    if let Some(listener) = admin {
        let admin = Arc::new(Admin { pipeline: Arc::clone(pipeline), metrics, facts });
        let serve = move |stream, leaving| admin::serve(Arc::clone(&admin), stream, leaving);
        tasks.spawn(listener::run(listener, leaving, serve));
    }
    (tasks, socket)
}

async fn bind(address: Option<&str>) -> Result<Option<TcpListener>, Failure> {
    let Some(address) = address else { return Ok(None) };
    let bound = TcpListener::bind(address).await;
    bound.map(Some).map_err(|error| Failure::create(format!("cannot listen on {address}"), error))
}

/// How groups are made durable, for people.
fn sync_method(config: &Config, pipeline: &Pipeline) -> &'static str {
    match config.sync {
        SyncPolicy::None => "none",
        SyncPolicy::Interval(_) => "fdatasync",
        SyncPolicy::Group => pipeline.store().durably().name(),
    }
}

fn kind_name(sink: &SinkConfig) -> &'static str {
    match sink.kind {
        SinkKind::Http => "http",
        SinkKind::Stdout => "stdout",
        SinkKind::Null => "null",
    }
}

/// One line with everything that one asks first; the addresses are the real ones.
fn announce(config: &Config, pipeline: &Pipeline, [http, tcp, admin]: [&Option<TcpListener>; 3]) {
    let address = |listener: &Option<TcpListener>| {
        listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok())
            .map_or("off".into(), |at| at.to_string())
    };
    let (device, sink) = (pipeline.store().device(), &config.sinks[0]);
    tracing::info!(
        version = VERSION,
        dir = %config.dir.display(),
        backend = device.backend,
        reason = device.reason,
        sync_method = sync_method(config, pipeline),
        http = address(http),
        tcp = address(tcp),
        unix = config.ingest.unix.as_ref().map_or("off".into(), |path| path.display().to_string()),
        admin = address(admin),
        sink = sink.name,
        kind = kind_name(sink),
        url = redact::url(&sink.url),
        "the agent runs"
    );
    let labels = [
        ("backend", device.backend.to_owned()),
        ("sync_method", sync_method(config, pipeline).to_owned()),
        ("reason", device.reason.clone()),
    ];
    metrics::gauge!("forebay_backend_info", &labels).set(1.0);
}

/// What /status says that never changes.
fn facts(config: &Config, pipeline: &Pipeline) -> serde_json::Value {
    let (store, sink) = (pipeline.store(), &config.sinks[0]);
    json!({
        "version": VERSION,
        "dir": config.dir.display().to_string(),
        "store": store.id().to_string(),
        "epoch": store.epoch().to_string(),
        "backend": store.device().backend,
        "reason": store.device().reason,
        "sync_method": sync_method(config, pipeline),
        "sink": { "name": sink.name, "kind": kind_name(sink), "url": redact::url(&sink.url) },
    })
}

/// Tells of a failure without the secrets of its URL, which a destination may echo.
struct Discreet {
    sink: ConfiguredSink,
    secrets: Vec<String>,
}

impl Sink for Discreet {
    async fn send(&mut self, batch: &Batch) -> Outcome {
        let shown = |reason| redact::scrub(reason, &self.secrets);
        match self.sink.send(batch).await {
            Outcome::Accepted => Outcome::Accepted,
            Outcome::RetryAfter { after, reason } => Outcome::RetryAfter { after, reason: shown(reason) },
            Outcome::Rejected { reason } => Outcome::Rejected { reason: shown(reason) },
            Outcome::Unknown { reason } => Outcome::Unknown { reason: shown(reason) },
        }
    }
}
