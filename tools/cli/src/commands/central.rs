//! `forebay central`: the central for trying things out, its counts printed each second.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::args::{Global, Output};
use crate::central::{Central, Options, Totals};
use crate::exit::{Done, Exit, Failure};
use crate::stop::StopSignals;

/// Flags of `forebay central`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9700", value_name = "ADDR")]
    listen: String,
    /// Append each record's payload and a newline to FILE, before the answer, repeats included
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Answer every batch with this status, 200 to 599; other than 2xx keeps nothing
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(u16).range(200..600))]
    status: Option<u16>,
    /// Answer 429 above N records a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate_limit: Option<u64>,
}

/// Serves until it is asked to stop.
pub(crate) fn run(args: Args, global: &Global) -> Done {
    let options = Options {
        out: args.out.as_deref().map(open).transpose()?,
        status: args.status.map(|code| StatusCode::from_u16(code).expect("clap holds it in 200..600")),
        rate_limit: args.rate_limit,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start the threads", error))?;
    runtime.block_on(serve(&args.listen, options, global.output))
}

fn open(path: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|error| Failure::create(format!("cannot open {} to append", path.display()), error))
}

async fn serve(listen: &str, options: Options, output: Output) -> Done {
    let mut stop = StopSignals::listen()?;
    let central = Central::start(listen, options)
        .await
        .map_err(|error| Failure::create(format!("cannot listen on {listen}"), error))?;
    print(&match output {
        Output::Text => format!("listening on http://{}/v1/records", central.address()),
        Output::Json => json!({ "listening": central.address().to_string() }).to_string(),
    })?;
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    every_second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every_second.tick().await;
    let mut before = Totals::default();
    loop {
        tokio::select! {
            () = stop.asked() => break,
            _ = every_second.tick() => {
                let totals = central.stats();
                print(&line(&totals, Some(totals.received - before.received), output))?;
                before = totals;
            }
        }
    }
    print(&line(&central.stop().await, None, output))?;
    Ok(Exit::Done)
}

/// The sums, and the rate of the last second; at the end there is none.
fn line(totals: &Totals, rate: Option<u64>, output: Output) -> String {
    if output == Output::Json {
        let mut object = json!(totals);
        match rate {
            Some(rate) => object["rate"] = rate.into(),
            None => object["total"] = true.into(),
        }
        return object.to_string();
    }
    let Totals { received, distinct, duplicates, missing, gaps, .. } = totals;
    let end = rate.map_or("in total".into(), |rate| format!("rate {rate}/s"));
    format!(
        "received {received} distinct {distinct} duplicates {duplicates} missing {missing} gaps {gaps} {end}"
    )
}

fn print(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
