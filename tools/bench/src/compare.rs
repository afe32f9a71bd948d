//! Holds one report against another: refuses what is not comparable, and says which conditions hold.
//!
//! Two runs are comparable when everything that they were asked for and everything that the machine is are equal; the
//! commit may differ, for it is what is compared.

use std::fmt::Write as _;
use std::str::FromStr;

use forebay::{Error, Kind, Result};
use serde_json::{Map, Value, json};

use crate::environment::MAY_DIFFER;

/// When a comparison fails: `p99>+10%` (the change of a figure), `ratio_to_raw_limit<0.9` (its value afterwards).
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    text: String,
    figure: String,
    /// Fails above the limit, else below.
    above: bool,
    limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Limit {
    /// Of the change, relative to the value before.
    Percent(f64),
    /// Of the value afterwards.
    Value(f64),
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let teach = || format!("{text:?} is no condition: write FIGURE>+10%, FIGURE<-5% or FIGURE<0.9");
        let at = text.find(['<', '>']).ok_or_else(teach)?;
        let (figure, limit) = (text[..at].trim(), text[at + 1..].trim());
        let number = |text: &str| text.trim().parse().ok().filter(|number: &f64| number.is_finite());
        let limit = match limit.strip_suffix('%') {
            Some(percent) => number(percent).map(Limit::Percent),
            None => number(limit).map(Limit::Value),
        };
        let limit = limit.filter(|_| !figure.is_empty()).ok_or_else(teach)?;
        let above = text[at..].starts_with('>');
        Ok(Self { text: text.to_owned(), figure: figure.to_owned(), above, limit })
    }
}

impl Condition {
    fn holds(&self, before: f64, after: f64) -> bool {
        let (value, limit) = match self.limit {
            Limit::Percent(percent) => (change_percent(before, after), percent),
            Limit::Value(limit) => (after, limit),
        };
        if self.above { value > limit } else { value < limit }
    }
}

fn change_percent(before: f64, after: f64) -> f64 {
    if before == after { 0.0 } else { (after - before) / before.abs() * 100.0 }
}

/// Two comparable reports, figure by figure.
#[derive(Debug)]
pub struct Comparison {
    figures: Vec<(String, f64, f64)>,
    failed: Vec<String>,
}

impl Comparison {
    /// Compares two documents that a bench has printed as JSON.
    ///
    /// # Errors
    /// `Config`: one is no report, they are not comparable, or a condition names no figure of theirs.
    pub fn new(before: &Value, after: &Value, conditions: &[Condition]) -> Result<Self> {
        refuse_unequal(before, after)?;
        let spreads = object(after, "spread")?;
        let number = |document: &Value, name: &str| document.get(name).and_then(Value::as_f64);
        let both = |name: &String| Some((name.clone(), number(before, name)?, number(after, name)?));
        let figures: Vec<_> = spreads.keys().filter_map(both).collect();
        let mut failed = Vec::new();
        for condition in conditions {
            let named =
                |name: &str| name == condition.figure || name.strip_suffix("_ns") == Some(&condition.figure);
            let Some((_, before, after)) = figures.iter().find(|figure| named(&figure.0)) else {
                let names: Vec<&str> = figures.iter().map(|figure| figure.0.as_str()).collect();
                let sentence = format!(
                    "no figure {} is in both reports: name one of {}",
                    condition.figure,
                    names.join(", ")
                );
                return Err(Error::new(Kind::Config, sentence));
            };
            if condition.holds(*before, *after) {
                failed.push(condition.text.clone());
            }
        }
        Ok(Self { figures, failed })
    }

    /// Whether no condition holds.
    pub fn is_good(&self) -> bool {
        self.failed.is_empty()
    }

    /// One JSON document.
    pub fn json(&self) -> Value {
        let figure = |(name, before, after): &(String, f64, f64)| {
            // What was nothing before has no relative change.
            let change = Some(change_percent(*before, *after)).filter(|change| change.is_finite());
            (name.clone(), json!({"before": before, "after": after, "change_percent": change}))
        };
        let figures: Map<String, Value> = self.figures.iter().map(figure).collect();
        json!({"figures": figures, "failed": self.failed})
    }

    /// A table for people.
    pub fn text(&self) -> String {
        let width = self.figures.iter().map(|figure| figure.0.len()).max().unwrap_or(0);
        let mut text = format!("{:width$}  {:>16} {:>16} {:>9}\n", "", "before", "after", "change");
        for (name, before, after) in &self.figures {
            let change = format!("{:+.1} %", change_percent(*before, *after));
            let _ = writeln!(text, "{name:width$}  {before:>16} {after:>16} {change:>9}");
        }
        for condition in &self.failed {
            let _ = writeln!(text, "fails: {condition}");
        }
        text
    }
}

fn object<'a>(document: &'a Value, name: &str) -> Result<&'a Map<String, Value>> {
    document.get(name).and_then(Value::as_object).ok_or_else(|| {
        Error::new(
            Kind::Config,
            format!("this is no report of forebay bench --output json: it has no {name}"),
        )
    })
}

fn refuse_unequal(before: &Value, after: &Value) -> Result<()> {
    let mut kinds = vec![("bench".to_owned(), before.get("bench"), after.get("bench"))];
    for part in ["options", "environment"] {
        let (before, after) = (object(before, part)?, object(after, part)?);
        let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
        kinds.extend(names.map(|name| (name.clone(), before.get(name), after.get(name))));
    }
    let differs = |(name, before, after): &&(String, Option<&Value>, Option<&Value>)| {
        before != after && !MAY_DIFFER.contains(&name.as_str())
    };
    let Some((name, before, after)) = kinds.iter().find(differs) else { return Ok(()) };
    let shown = |value: &Option<&Value>| value.map_or("not there".to_owned(), Value::to_string);
    let sentence = format!(
        "the two are not comparable: {name} is {} in the first and {} in the second; measure both alike",
        shown(before),
        shown(after)
    );
    Err(Error::new(Kind::Config, sentence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report(p99: f64) -> Value {
        json!({
            "bench": "latency", "p99_ns": p99, "rate": 2.0,
            "options": {"payload_bytes": 256},
            "environment": {"kernel": "6.18", "commit": format!("{p99}")},
            "spread": {"p99_ns": [p99, p99], "rate": [2, 2]},
        })
    }

    fn fails(before: f64, after: f64, condition: &str) -> bool {
        let condition = condition.parse().unwrap();
        !Comparison::new(&report(before), &report(after), &[condition]).unwrap().is_good()
    }

    #[test]
    fn a_condition_holds_beyond_its_limit_and_not_at_it() {
        assert!(fails(100.0, 111.0, "p99>+10%") && !fails(100.0, 110.0, "p99>+10%"));
        assert!(fails(100.0, 94.0, "p99_ns<-5%") && !fails(100.0, 95.0, "p99_ns<-5%"));
        assert!(fails(1.0, 9.0, "p99>8.5") && !fails(9.0, 8.0, "p99 > 8.5"));
        assert!(fails(0.0, 1.0, "p99>+1000%") && !fails(0.0, 0.0, "p99>+0%"));
    }

    proptest! {
        #[test]
        fn no_change_never_fails_and_a_larger_one_never_fails_less(
            before in 1.0..1e9f64, factor in 0.1..10.0f64, more in 1.0..10.0f64, percent in 0.1..900.0f64,
        ) {
            let condition = format!("p99>+{percent}%");
            prop_assert!(!fails(before, before, &condition));
            let (after, further) = (before * factor, before * factor * more);
            prop_assert!(!fails(before, after, &condition) || fails(before, further, &condition));
        }
    }

    #[test]
    fn unequal_ones_are_refused_with_what_differs() {
        for (part, name) in [("options", "payload_bytes"), ("environment", "kernel")] {
            let mut other = report(1.0);
            other[part][name] = "other".into();
            let refused = Comparison::new(&report(1.0), &other, &[]).unwrap_err().to_string();
            assert!(refused.contains(name) && refused.contains("other"), "{refused}");
        }
        let mut other = report(1.0);
        other["options"]["cold"] = true.into();
        assert!(Comparison::new(&report(1.0), &other, &[]).unwrap_err().to_string().contains("not there"));
        assert!(Comparison::new(&json!({"bench": "latency"}), &report(1.0), &[]).is_err());
    }

    #[test]
    fn what_is_no_condition_is_taught_and_what_names_no_figure_is_refused() {
        for text in ["", "p99", "p99>", ">10%", "p99>x%", "p99=3", "p99>inf"] {
            assert!(text.parse::<Condition>().unwrap_err().contains("write FIGURE>+10%"), "{text}");
        }
        let unknown = "p98>+1%".parse().unwrap();
        let refused = Comparison::new(&report(1.0), &report(1.0), &[unknown]).unwrap_err().to_string();
        assert!(refused.contains("p98") && refused.contains("p99_ns"), "{refused}");
    }
}
