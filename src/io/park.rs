//! Runs a future on the thread that asks, which sleeps while the future waits.
//!
//! So that whoever blocks is woken as a task is: alone, when what it waits for is there, and without a lock to
//! queue for. One waker a thread, made at its first wait; no allocation after that. Knows no future.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use super::Wait;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static WAKER: Waker = Arc::new(Unpark(std::thread::current())).into();
}

/// What `future` came to; `None` when `wait` was over before.
pub fn block_on<F: Future>(future: F, wait: Wait) -> Option<F::Output> {
    let mut future = pin!(future);
    let deadline = match wait {
        Wait::Now => Some(Instant::now()),
        Wait::For(time) => Instant::now().checked_add(time),
        Wait::Forever => None,
    };
    WAKER.with(|waker| {
        let mut context = Context::from_waker(waker);
        loop {
            // A wake between this look and the sleep ends the sleep at once.
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Some(output);
            }
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => std::thread::park(),
                Some(left) if left.is_zero() => return None,
                Some(left) => std::thread::park_timeout(left),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_woken_from_any_thread_and_a_time_ends_it() {
        let (ready, sleeper) = (Mutex::new(false), Mutex::new(None::<Waker>));
        let waits = std::future::poll_fn(|context| {
            *sleeper.lock().unwrap() = Some(context.waker().clone());
            if *ready.lock().unwrap() { Poll::Ready(7) } else { Poll::Pending }
        });
        assert_eq!(block_on(std::future::pending::<()>(), Wait::For(Duration::from_millis(1))), None);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let waker = loop {
                    if let Some(waker) = sleeper.lock().unwrap().take() {
                        break waker;
                    }
                };
                *ready.lock().unwrap() = true;
                waker.wake();
            });
            assert_eq!(block_on(waits, Wait::Forever), Some(7));
        });
    }
}
