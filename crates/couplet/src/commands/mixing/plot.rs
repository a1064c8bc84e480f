//! Lines over a number, as an SVG image.

use std::fmt::Write;

/// The values of a line.
pub(super) struct Series {
    pub name: String,
    /// In percent.
    pub values: Vec<f64>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
/// Around the lines: left, right, top, bottom.
const EDGES: [f64; 4] = [56.0, 200.0, 20.0, 48.0];
/// Distinguished by people who do not see red or green, too. Source: Okabe and Ito 2008.
const COLORS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];
/// Distances of neighbouring labels of an axis, times a power of ten.
const NICE: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
const LABELS: f64 = 6.0;

/// - axis: what `places` are; best: the place that is marked.
pub(super) fn svg(axis: &str, places: &[f64], series: &[Series], best: usize) -> String {
    let x = Scale::new(places.iter().copied(), [EDGES[0], WIDTH - EDGES[1]], false);
    let values = series.iter().flat_map(|one| one.values.iter().copied());
    let y = Scale::new(values, [HEIGHT - EDGES[3], EDGES[2]], true);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let mut add = |line: std::fmt::Arguments| writeln!(out, "{line}").expect("a text grows");
    let (left, right) = (EDGES[0], WIDTH - EDGES[1]);
    let (top, bottom) = (EDGES[2], HEIGHT - EDGES[3]);
    for value in y.labels() {
        let at = y.place(value);
        add(format_args!(
            "<path d=\"M{left:.1} {at:.1}H{right:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{at:.1}\" dy=\".35em\" text-anchor=\"end\">{}%</text>",
            left - 8.0,
            y.label(value)
        ));
    }
    for value in x.labels() {
        let at = x.place(value);
        add(format_args!(
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            x.label(value)
        ));
    }
    add(format_args!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(left, right),
        HEIGHT - 8.0,
        escaped(axis)
    ));
    if let Some(place) = places.get(best) {
        let at = x.place(*place);
        add(format_args!(
            "<path d=\"M{at:.1} {top:.1}V{bottom:.1}\" stroke=\"#888\" stroke-dasharray=\"4 4\"/>"
        ));
    }
    for (at, one) in series.iter().enumerate() {
        let color = COLORS[at % COLORS.len()];
        let points: Vec<String> = (places.iter().zip(&one.values))
            .filter(|(_, value)| value.is_finite())
            .map(|(place, value)| format!("{:.1},{:.1}", x.place(*place), y.place(*value)))
            .collect();
        add(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            points.join(" ")
        ));
        for (point, (place, value)) in points.iter().zip(places.iter().zip(&one.values)) {
            let (cx, cy) = point.split_once(',').unwrap_or_default();
            add(format_args!(
                "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"3\" fill=\"{color}\"><title>{}: {value:.2}% at {place}</title></circle>",
                escaped(&one.name)
            ));
        }
        #[expect(clippy::cast_precision_loss, reason = "there are few lines")]
        let line = top + 12.0 + 18.0 * at as f64;
        add(format_args!(
            "<path d=\"M{:.1} {line:.1}h16\" stroke=\"{color}\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{line:.1}\" dy=\".35em\">{}</text>",
            right + 12.0,
            right + 34.0,
            escaped(&one.name)
        ));
    }
    out.push_str("</svg>\n");
    out
}

/// An axis.
struct Scale {
    low: f64,
    high: f64,
    step: f64,
    ends: [f64; 2],
}

impl Scale {
    /// - ends: where the lowest and the highest value are; is_rounded: whether the axis ends at labels.
    fn new(values: impl Iterator<Item = f64>, ends: [f64; 2], is_rounded: bool) -> Self {
        let values = values.filter(|value| value.is_finite());
        let (mut low, mut high) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low < 1e-9 {
            (low, high) = (low - 0.5, high + 0.5);
        }
        let rough = (high - low) / LABELS;
        let power = 10f64.powf(rough.log10().floor());
        let mut steps = NICE.iter().map(|nice| nice * power);
        let step = steps.find(|step| *step >= rough).unwrap_or(10.0 * power);
        if is_rounded {
            (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        }
        Self {
            low,
            high,
            step,
            ends,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        self.ends[0] + share * (self.ends[1] - self.ends[0])
    }

    fn labels(&self) -> impl Iterator<Item = f64> + use<> {
        let (first, step, high) = ((self.low / self.step).ceil(), self.step, self.high);
        (0..=20u32)
            .map(move |at| (first + f64::from(at)) * step)
            .take_while(move |value| *value <= high + step * 1e-6)
    }

    /// With as many digits as the distance of labels has.
    fn label(&self, value: f64) -> String {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few digits"
        )]
        let digits = (-self.step.log10().floor()).clamp(0.0, 6.0) as usize;
        // No minus before a zero.
        format!("{:.digits$}", value + 0.0)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_labels_and_hold_all_values() {
        let scale = Scale::new([61.3, 68.9].into_iter(), [100.0, 0.0], true);
        let labels: Vec<String> = scale.labels().map(|value| scale.label(value)).collect();
        assert_eq!(labels, ["60", "62", "64", "66", "68", "70"]);
        assert_eq!((scale.place(60.0), scale.place(70.0)), (100.0, 0.0));
        let scale = Scale::new([0.0, 1.0].into_iter(), [0.0, 10.0], false);
        let labels: Vec<String> = scale.labels().map(|value| scale.label(value)).collect();
        assert_eq!(labels, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let flat = Scale::new([5.0].into_iter(), [0.0, 10.0], true);
        assert!((flat.place(5.0) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn every_line_has_its_name_and_its_points() {
        let series = ["a <b>", "c"].map(|name| Series {
            name: name.to_string(),
            values: vec![50.0, 70.0, f64::NAN],
        });
        let text = svg("weight", &[0.0, 0.5, 1.0], &series, 1);
        assert_eq!(text.matches("<polyline").count(), 2);
        assert_eq!(text.matches("<circle").count(), 4);
        assert!(
            text.contains("a &lt;b&gt;") && !text.contains("NaN"),
            "{text}"
        );
    }
}
