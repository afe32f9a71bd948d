//! The report as one HTML file that needs nothing else: the plots' library is in it (uPlot, MIT, see `tools/bench/uplot`).

use serde_json::{Value, json};

use crate::report::{Report, Series};

const TEMPLATE: &str = include_str!("page.html");
const LIBRARY: &str = include_str!("../uplot/uPlot.iife.min.js");
const STYLE: &str = include_str!("../uplot/uPlot.min.css");
const LICENCE: &str = include_str!("../uplot/LICENSE");

/// The whole page.
pub(crate) fn of(report: &Report) -> String {
    let series: Vec<Value> = report.series.iter().map(of_series).collect();
    let document = json!({"report": report.json(), "series": series});
    // Nothing in the data may end the script that it stands in.
    let document = document.to_string().replace('<', "\\u003c");
    let parts = [
        ("/*STYLE*/", STYLE),
        ("/*LICENCE*/", LICENCE),
        ("/*LIBRARY*/", LIBRARY),
        ("/*DOCUMENT*/", &document),
    ];
    // One pass over the template: what is put in is not looked at again.
    let mut page = String::with_capacity(TEMPLATE.len() + LIBRARY.len() + document.len() + STYLE.len());
    let mut rest = TEMPLATE;
    for (mark, content) in parts {
        let (before, after) = rest.split_once(mark).expect("the template has every mark, in this order");
        page.push_str(before);
        page.push_str(content);
        rest = after;
    }
    page + rest
}

fn of_series(series: &Series) -> Value {
    json!({
        "title": series.title,
        "x": series.x,
        "y": series.y,
        "logarithmic": series.logarithmic,
        "names": series.lines.iter().map(|line| &line.0).collect::<Vec<_>>(),
        "data": std::iter::once(json!(series.at)).chain(series.lines.iter().map(|line| json!(line.1))).collect::<Vec<_>>(),
    })
}
