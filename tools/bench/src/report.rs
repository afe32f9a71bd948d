//! What a bench says: figures with their spread, for people and as JSON.
//!
//! A figure is one number a round. The document has each figure's median under its own name, so that a script reads
//! it with one look-up, and all rounds under `rounds`. It knows no bench.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::environment::Environment;
use crate::runner::Sample;
use crate::stats::spread;

/// A curve for the page: what people see at one look.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) at: Vec<f64>,
    pub(crate) lines: Vec<(String, Vec<Option<f64>>)>,
    /// Whether the horizontal axis is logarithmic.
    pub(crate) logarithmic: bool,
}

/// The outcome of one bench.
#[derive(Debug, Clone)]
pub struct Report {
    bench: &'static str,
    options: Map<String, Value>,
    environment: Environment,
    facts: Map<String, Value>,
    figures: Vec<(String, Vec<f64>)>,
    pub(crate) series: Vec<Series>,
}

impl Report {
    /// `options` are what was asked for: two runs with other ones are not compared.
    pub(crate) fn new(bench: &'static str, options: Value, environment: Environment) -> Self {
        let Value::Object(options) = options else { unreachable!("options have names") };
        Self { bench, options, environment, facts: Map::new(), figures: Vec::new(), series: Vec::new() }
    }

    /// Something that has no median.
    pub(crate) fn state(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.into(), value.into());
    }

    /// A sentence that a reader has to be told.
    pub(crate) fn note(&mut self, sentence: impl Into<String>) {
        self.environment.notes.push(sentence.into());
    }

    /// The figures of one lane.
    pub(crate) fn add(&mut self, samples: &[Sample]) {
        for (name, _) in samples.first().map_or(&[][..], |sample| &sample.0) {
            let values = samples.iter().filter_map(|sample| sample.0.iter().find(|figure| figure.0 == *name));
            self.figures.push(((*name).to_owned(), values.map(|figure| figure.1).collect()));
        }
    }

    /// The ratio of two figures, round by round; nothing where one of them is not known.
    pub(crate) fn add_ratio(&mut self, name: &str, over: &str, under: &str) {
        let (Some(over), Some(under)) = (self.rounds(over), self.rounds(under)) else { return };
        let ratios = over.iter().zip(under).map(|(over, under)| over / under).collect();
        self.figures.push((name.to_owned(), ratios));
    }

    /// A figure of every round.
    pub(crate) fn rounds(&self, name: &str) -> Option<&[f64]> {
        self.figures.iter().find(|figure| figure.0 == name).map(|figure| figure.1.as_slice())
    }

    /// One JSON document.
    pub fn json(&self) -> Value {
        let mut document = Map::new();
        document.insert("bench".into(), self.bench.into());
        let (mut spreads, mut rounds) = (Map::new(), Map::new());
        for (name, values) in &self.figures {
            let Some(spread) = spread(values) else { continue };
            document.insert(name.clone(), rounded(spread.median));
            spreads.insert(name.clone(), json!([rounded(spread.least), rounded(spread.most)]));
            rounds.insert(name.clone(), values.iter().copied().map(rounded).collect());
        }
        document.extend(self.facts.clone());
        document.insert("options".into(), self.options.clone().into());
        document.insert("environment".into(), self.environment.facts.clone().into());
        document.insert("notes".into(), self.environment.notes.clone().into());
        document.insert("spread".into(), spreads.into());
        document.insert("rounds".into(), rounds.into());
        document.into()
    }

    /// A table for people.
    pub fn text(&self) -> String {
        let mut text = format!("forebay bench {}: {}\n", self.bench, listed(&self.options));
        let _ = writeln!(text, "on {}", listed(&self.environment.facts));
        let width =
            self.figures.iter().map(|figure| figure.0.len()).chain(self.facts.keys().map(String::len)).max();
        let width = width.unwrap_or(0);
        let _ = writeln!(text, "\n{:width$}  {:>14} {:>14} {:>14}", "", "median", "least", "most");
        for (name, values) in &self.figures {
            let Some(spread) = spread(values) else { continue };
            let [median, least, most] = [spread.median, spread.least, spread.most].map(shown);
            let _ = writeln!(text, "{name:width$}  {median:>14} {least:>14} {most:>14}");
        }
        for (name, value) in &self.facts {
            let _ = writeln!(text, "{name:width$}  {:>14}", plain(value));
        }
        for note in &self.environment.notes {
            let _ = writeln!(text, "\nnote: {note}");
        }
        text
    }

    /// One HTML file that needs nothing else.
    pub fn html(&self) -> String {
        crate::page::of(self)
    }
}

/// Six significant digits: what is beyond is noise.
fn rounded(value: f64) -> Value {
    let text = format!("{value:.5e}");
    let value: f64 = text.parse().expect("what was printed as a number");
    if value.fract() == 0.0 && value.abs() < 9e15 { (value as i64).into() } else { value.into() }
}

fn shown(value: f64) -> String {
    if value.abs() >= 100.0 || value == 0.0 { grouped(value) } else { format!("{value:.3}") }
}

/// `1234567` as `1,234,567`.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn listed(facts: &Map<String, Value>) -> String {
    facts.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn report() -> Report {
        let environment = Environment::probe(Path::new("/"), "c0ffee");
        let mut report = Report::new("append", json!({"payload_bytes": 256}), environment);
        let sample = |a: f64, b: f64| Sample(vec![("over", a), ("under", b)]);
        report.add(&[sample(6.0, 3.0), sample(8.0, 2.0), sample(9.0, 3.0)]);
        report.add_ratio("ratio", "over", "under");
        report.add_ratio("nothing", "over", "missing");
        report.state("warm", true);
        report
    }

    #[test]
    fn a_ratio_is_one_of_each_round_and_not_of_medians() {
        let document = report().json();
        assert_eq!((&document["over"], &document["ratio"]), (&json!(8), &json!(3)));
        assert_eq!(document["spread"]["ratio"], json!([2, 4]));
        assert_eq!(document["rounds"]["ratio"], json!([2, 4, 3]));
        assert_eq!(document["warm"], json!(true));
        assert!(document.get("nothing").is_none());
    }

    #[test]
    fn people_get_thousands_apart_and_six_digits() {
        assert_eq!([1234567.0, 100.4, 0.0, 0.12345].map(shown), ["1,234,567", "100", "0", "0.123"]);
        assert_eq!(rounded(0.123_456_789), json!(0.123457));
        assert!(report().text().contains("ratio"));
    }
}
