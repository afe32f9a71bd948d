//! Accepts connections, as many at once as its limit, until it is told to leave. Knows no protocol.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Connections of one listener at once; more wait to be accepted.
const CONNECTION_COUNT_MAX: usize = 256;
/// How long connections may take to end when the listener goes.
const FAREWELL: Duration = Duration::from_secs(2);
/// After an accept that failed: no descriptor is left, or the peer is gone already.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Set, or its sender gone: leave.
pub(crate) type Leaving = watch::Receiver<bool>;

/// Comes back when it is time to leave.
pub(crate) async fn left(leaving: &mut Leaving) {
    // An error says that the sender is gone, and that is the same.
    let _ = leaving.wait_for(|leave| *leave).await;
}

/// Something that connections come from.
pub(crate) trait Accept: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one. Cancel safe.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        // Answers are small: waiting to fill a segment would cost 40 ms each.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

/// Serves each connection with `serve` until `leaving`; then waits for those that are left, for 2 s.
pub(crate) async fn run<A, F, Served>(listener: A, mut leaving: Leaving, serve: F)
where
    A: Accept,
    F: Fn(A::Stream, Leaving) -> Served,
    Served: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = left(&mut leaving) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.next(), if connections.len() < CONNECTION_COUNT_MAX => match accepted {
                Ok(stream) => {
                    connections.spawn(serve(stream, leaving.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(FAREWELL, all_ended).await;
    connections.shutdown().await;
}
