//! One SVG that needs nothing else: a panel a workload, a bar a contestant, the spread as a line through its end.

use std::fmt::Write as _;

use crate::race::Row;
use crate::spread::Spread;
use crate::workload::Workload;

const WIDTH: u32 = 760;
const LABEL: u32 = 190;
const BAR: u32 = 400;
const ROW: u32 = 24;
const PANEL: u32 = 56;

/// The plot; a workload in which nobody has run has no panel.
pub(crate) fn svg(rows: &[Row]) -> String {
    let mut body = String::new();
    let mut top = 8;
    for workload in Workload::ALL {
        let bars: Vec<(&Row, Spread)> = rows
            .iter()
            .filter(|row| row.workload == workload)
            .filter_map(|row| Some((row, figure(row)?)))
            .collect();
        if bars.is_empty() {
            continue;
        }
        top = panel(&mut body, workload, &bars, top);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top}\" viewBox=\"0 0 {WIDTH} {top}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// What a bar shows: the median wait in us of a single record, thousands of records a second otherwise.
fn figure(row: &Row) -> Option<Spread> {
    match row.workload {
        Workload::Single => Some(row.wait_us()?.0),
        Workload::Grouped | Workload::Threads => {
            let speed = row.records_per_second()?;
            Some(Spread { min: speed.min / 1e3, median: speed.median / 1e3, max: speed.max / 1e3 })
        }
    }
}

/// Draws one panel below `top`, and says where the next one begins.
fn panel(body: &mut String, workload: Workload, bars: &[(&Row, Spread)], top: u32) -> u32 {
    let unit = match workload {
        Workload::Single => "median wait, us: shorter is better",
        Workload::Grouped | Workload::Threads => "1,000 records a second: longer is better",
    };
    let _ =
        writeln!(body, "<text x=\"8\" y=\"{}\" font-weight=\"600\">{}</text>", top + 18, workload.title());
    let _ =
        writeln!(body, "<text x=\"8\" y=\"{}\" fill=\"#666\">{unit}; line: least to most</text>", top + 36);
    let most = bars.iter().map(|(_, spread)| spread.max).fold(f64::MIN_POSITIVE, f64::max);
    let length = |value: f64| value / most * f64::from(BAR);
    let mut y = top + 46;
    for (row, spread) in bars {
        let color = if row.entrant.name.starts_with("forebay") { "#1668b8" } else { "#9aa5b1" };
        let (middle, end) = (y + ROW / 2, f64::from(LABEL) + length(spread.max) + 8.0);
        let [from, to] = [spread.min, spread.max].map(|value| f64::from(LABEL) + length(value));
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABEL}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" fill=\"{color}\"/>\
             <line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"#222\"/>\
             <text x=\"{end:.1}\" y=\"{}\">{:.0}</text>",
            LABEL - 8,
            middle + 5,
            row.title(),
            y + 3,
            length(spread.median),
            ROW - 6,
            middle + 5,
            spread.median
        );
        y += ROW;
    }
    y.max(top + PANEL) + 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::ENTRANTS;
    use crate::lap::Outcome;

    #[test]
    fn a_bar_is_as_long_as_its_median_and_who_is_out_has_none() {
        let mut rows = [0, 3, 10].map(|index| Row::new(&ENTRANTS[index], Workload::Grouped));
        let lap = |wall_ns| Outcome { appends: 4_000, begun_ns: 0, wall_ns, cpu_ns: 1, wait_ns: None };
        rows[0].laps = vec![lap(1_000_000)];
        rows[1].laps = vec![lap(4_000_000)];
        let svg = svg(&rows);
        assert_eq!(svg.matches("<rect x=").count(), 2);
        assert!(svg.contains("width=\"400.0\"") && svg.contains("width=\"100.0\""), "{svg}");
        assert!(!svg.contains("yaque") && !svg.contains("single"));
    }
}
