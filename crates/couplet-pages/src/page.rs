//! The HTML of pages, with everything that they need inside.

use serde::Serialize;

const PAGE: &str = include_str!("../assets/report.html");
const STYLE: &str = include_str!("../assets/report.css");
/// What the scripts of all pages share; it comes before them.
pub const ELEMENTS: &str = include_str!("../assets/elements.js");
const REPORT: &str = include_str!("../assets/report.js");
const LIST: &str = include_str!("../assets/list.js");
const CHART_STYLE: &str = include_str!("../assets/uplot/uPlot.min.css");
const CHARTS: &str = include_str!("../assets/uplot/uPlot.iife.min.js");
const CHARTS_LICENCE: &str = include_str!("../assets/uplot/LICENSE");

/// What a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Runs, with charts.
    Report,
    /// A line for each run.
    List,
}

/// The page of `data`.
pub(crate) fn html(kind: Kind, title: &str, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).expect("reports serialise");
    let (style, charts, script) = match kind {
        Kind::Report => (
            format!("{CHART_STYLE}\n{STYLE}"),
            format!("/*\n{CHARTS_LICENCE}*/\n{CHARTS}"),
            REPORT,
        ),
        Kind::List => (STYLE.to_string(), String::new(), LIST),
    };
    let parts = [
        ("{{title}}", escaped(title)),
        ("{{style}}", style),
        ("{{data}}", in_script(&data)),
        ("{{charts}}", charts),
        ("{{script}}", format!("{ELEMENTS}\n{script}")),
    ];
    // One after the other, from left to right: what was put in is not looked at again.
    let mut page = String::new();
    let mut rest = PAGE;
    for (place, text) in parts {
        let (before, after) = rest
            .split_once(place)
            .expect("the page has all places in this order");
        page.push_str(before);
        page.push_str(&text);
        rest = after;
    }
    page.push_str(rest);
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// JSON for a script element, which a `</script>` or `<!--` in a text would end or change.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_run_are_no_markup() {
        for kind in [Kind::Report, Kind::List] {
            let page = html(kind, "a<b>&{{data}}", &"</script><!--{{script}}");
            assert!(page.contains("<title>a&lt;b&gt;&amp;{{data}}</title>"));
            assert!(page.contains("\"\\u003c/script>\\u003c!--{{script}}\""));
            assert_eq!(page.matches("</script>").count(), 3);
        }
    }

    #[test]
    fn the_page_names_no_other_address() {
        for kind in [Kind::Report, Kind::List] {
            let page = html(kind, "x", &1);
            // Of uPlot's licence and namespaces of its code, none is requested; events come from the page's own server.
            for attribute in [
                "src=\"",
                "href=\"http",
                "url(",
                "@import",
                "fetch(",
                "XMLHttpRequest",
            ] {
                assert!(!page.contains(attribute), "{attribute}");
            }
        }
    }
}
