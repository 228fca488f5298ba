//! Draws the series of a report.

use std::path::Path;

use plotters::prelude::*;

use crate::report::{Report, Row};

const SIZE: (u32, u32) = (760, 380);
const COLORS: [RGBColor; 5] = [
    RGBColor(0, 92, 175),
    RGBColor(203, 64, 66),
    RGBColor(34, 125, 81),
    RGBColor(233, 139, 42),
    RGBColor(102, 50, 124),
];

/// A line of a plot: its name, the series, and what of a row it shows.
type Line = (&'static str, &'static str, fn(&Row) -> f64);

/// Draws what there is into `dir`.
pub fn draw(report: &Report, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let rate = |row: &Row| row.events_per_second;
    let p50 = |row: &Row| row.p50_ms.unwrap_or_default();
    let p99 = |row: &Row| row.p99_ms.unwrap_or_default();
    let plot = |file: &str, title, x, y, lines: &[Line]| Plot { title, x, y, lines }.draw(report, &dir.join(file));
    plot(
        "latency.svg",
        "Latency against load, single events, one source",
        "webhooks/s",
        "ms",
        &[
            ("the 200, p50", "load, answer", p50),
            ("the 200, p99", "load, answer", p99),
            ("from the 200 to Segment, p50", "load, arrival", p50),
            ("from the 200 to Segment, p99", "load, arrival", p99),
        ],
    )?;
    plot(
        "sources.svg",
        "Throughput against the number of sources",
        "sources",
        "events/s",
        &[
            ("stored, 100 a webhook", "sources, stored, 100 a webhook", rate),
            ("delivered, 100 a webhook", "sources, delivered, 100 a webhook", rate),
            ("delivered, 100 a webhook, Zipf", "sources, delivered, 100 a webhook, Zipf", rate),
            ("stored, 1 a webhook", "sources, stored, 1 a webhook", rate),
            ("delivered, 1 a webhook", "sources, delivered, 1 a webhook", rate),
        ],
    )?;
    plot(
        "backlog.svg",
        "Throughput against what waits already",
        "events waiting",
        "events/s",
        &[
            ("stored, 100 a webhook", "backlog, stored, 100 a webhook", rate),
            ("delivered, 100 a webhook", "backlog, delivered, 100 a webhook", rate),
            ("stored, 1 a webhook", "backlog, stored, 1 a webhook", rate),
        ],
    )
}

struct Plot<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    lines: &'a [Line],
}

impl Plot<'_> {
    /// The values of x stand side by side, however far they are apart: they are few. Room is left above for the legend.
    fn draw(&self, report: &Report, file: &Path) -> anyhow::Result<()> {
        let mut xs: Vec<f64> =
            self.lines.iter().flat_map(|(_, series, _)| report.series(series)).map(|(x, _)| x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        if xs.is_empty() {
            return Ok(());
        }
        let points = |(_, series, value): &Line| -> Vec<(f64, f64)> {
            let place = |x| xs.iter().position(|other| *other == x).unwrap_or_default() as f64;
            report.series(series).map(|(x, row)| (place(x), value(row))).collect()
        };
        let top = self.lines.iter().flat_map(&points).map(|(_, y)| y).fold(0.0, f64::max) * 1.5;
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(-0.1..xs.len() as f64 - 0.9, 0.0..top)?;
        let name = |x: &f64| {
            let is_place = (x - x.round()).abs() < 1e-6;
            xs.get(if is_place { x.round() as usize } else { usize::MAX }).map_or(String::new(), |x| thousands(*x))
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(xs.len() * 10)
            .x_label_formatter(&name)
            .y_label_formatter(&|y| if top < 100.0 { format!("{y:.0}") } else { thousands(*y) })
            .x_desc(self.x)
            .y_desc(self.y)
            .draw()?;
        for (line, color) in self.lines.iter().zip(COLORS) {
            let points = points(line);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
                .label(line.0)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
            chart.draw_series(points.into_iter().map(|point| Circle::new(point, 3, color.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        area.present()?;
        Ok(())
    }
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
