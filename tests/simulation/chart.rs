//! Draws what the simulation found, as SVG: a panel of bars per figure, a bar per policy.

use std::fmt::Write;

use super::Row;

/// One figure of all policies.
struct Panel {
    title: &'static str,
    unit: &'static str,
    of: fn(&Row) -> f64,
}

const PANELS: [Panel; 5] = [
    Panel {
        title: "Ten equal servers: 99th percentile of latency",
        unit: " ms",
        of: |row| row.even.p99,
    },
    Panel {
        title: "One of ten three times as slow: 99th percentile of latency",
        unit: " ms",
        of: |row| row.slow.p99,
    },
    Panel {
        title: "One of ten answers 500 at once: requests that fail",
        unit: " %",
        of: |row| row.failing.errors * 100.0,
    },
    Panel {
        title: "One joins: requests that it gets within 10 ms, at most",
        unit: "",
        of: |row| row.joining.rush as f64,
    },
    Panel {
        title: "The same with slow start",
        unit: "",
        of: |row| row.eased.rush as f64,
    },
];

/// The chart.
pub(super) fn drawn(rows: &[Row]) -> String {
    let height = 20 + PANELS.len() * (34 + rows.len() * LINE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let mut y = 24;
    for panel in PANELS {
        // Bars of one panel have one scale, those of slow start the scale of the panel above.
        let reference: fn(&Row) -> f64 = if panel.title.starts_with("The same") {
            PANELS[3].of
        } else {
            panel.of
        };
        let most = rows.iter().map(reference).fold(f64::MIN_POSITIVE, f64::max);
        let _ = writeln!(
            svg,
            "<text x=\"10\" y=\"{y}\" font-weight=\"bold\" fill=\"#222222\">{}</text>",
            panel.title
        );
        y += 8;
        for row in rows {
            let value = (panel.of)(row);
            let length = value / most * f64::from(BAR);
            let digits = usize::from(panel.unit == " %");
            let (middle, end) = (y + 13, f64::from(LEFT) + length + 6.0);
            let _ = writeln!(
                svg,
                "<text x=\"10\" y=\"{middle}\" fill=\"#222222\">{}</text><rect x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"13\" fill=\"#3b6ea5\"/><text x=\"{end:.1}\" y=\"{middle}\" fill=\"#222222\">{value:.digits$}{}</text>",
                row.policy,
                y + 3,
                panel.unit
            );
            y += LINE;
        }
        y += 26;
    }
    svg + "</svg>\n"
}

const WIDTH: u32 = 720;
const LEFT: u32 = 150;
const BAR: u32 = 480;
const LINE: usize = 18;
