//! Draws the series of a report.

use std::path::Path;

use plotters::prelude::*;

use crate::loads::report::{LoadsReport, Measured};
use crate::report::{Report, Row};

const SIZE: (u32, u32) = (760, 380);
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 92, 175),
    RGBColor(203, 64, 66),
    RGBColor(34, 125, 81),
    RGBColor(233, 139, 42),
    RGBColor(102, 50, 124),
    RGBColor(110, 110, 110),
    RGBColor(0, 150, 160),
];

/// A line of a plot: its name, the series, and what of a row it shows.
type Series = (&'static str, &'static str, fn(&Row) -> f64);

/// Draws what there is into `dir`.
pub fn draw(report: &Report, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let rate = |row: &Row| row.events_per_second;
    let p50 = |row: &Row| row.p50_ms.unwrap_or_default();
    let p99 = |row: &Row| row.p99_ms.unwrap_or_default();
    let plot = |file: &str, title, x, y, lines: &[Series]| {
        let line = |(name, series, value): &Series| Line {
            name: (*name).to_owned(),
            points: report.series(series).map(|(x, row)| (x, value(row))).collect(),
        };
        Plot { title, x, y, lines: lines.iter().map(line).collect() }.draw(&dir.join(file))
    };
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

/// Draws cost and latency against the rate.
pub fn draw_loads(report: &LoadsReport, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let cost = |measured: &Measured| Some(measured.cpu.program_and_postgres());
    let x = "events/s";
    let lines = report.lines(&["program", "bare", "Node"], cost);
    Plot { title: "Cost against rate, single events, by number of sources", x, y: "µs CPU an event", lines }
        .draw(&dir.join("cost.svg"))?;
    let lines = report.lines(&["program", "before"], cost);
    if report.at_rate.iter().any(|measured| measured.subject == "before") {
        Plot { title: "Cost against rate, this program and an earlier one", x, y: "µs CPU an event", lines }
            .draw(&dir.join("cost-before.svg"))?;
    }
    let lines = report.lines(&["program", "Node"], |measured| Some(measured.arrival?.p50_ms));
    Plot { title: "From the 200 to the arrival at Segment, p50", x, y: "ms", lines }.draw(&dir.join("arrival.svg"))
}

impl LoadsReport {
    /// A line for each of these subjects, and each of its numbers of sources.
    fn lines(&self, subjects: &[&str], value: fn(&Measured) -> Option<f64>) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for subject in subjects {
            for measured in self.at_rate.iter().filter(|measured| measured.subject == *subject) {
                let name = match measured.sources {
                    Some(1) => format!("{subject}, 1 source"),
                    Some(n) => format!("{subject}, {} sources", thousands(n as f64)),
                    None => (*subject).to_owned(),
                };
                let point = value(measured).map(|y| (f64::from(measured.rate), y));
                match lines.iter_mut().find(|line| line.name == name) {
                    Some(line) => line.points.extend(point),
                    None => lines.push(Line { name, points: point.into_iter().collect() }),
                }
            }
        }
        lines
    }
}

struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

struct Plot<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    lines: Vec<Line>,
}

impl Plot<'_> {
    /// The values of x stand side by side, however far they are apart: they are few. Room is left above for the legend.
    fn draw(&self, file: &Path) -> anyhow::Result<()> {
        let mut xs: Vec<f64> = self.lines.iter().flat_map(|line| &line.points).map(|(x, _)| *x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        if xs.is_empty() {
            return Ok(());
        }
        let points = |line: &Line| -> Vec<(f64, f64)> {
            let place = |x: &f64| xs.iter().position(|other| other == x).unwrap_or_default() as f64;
            line.points.iter().map(|(x, y)| (place(x), *y)).collect()
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
        for (line, color) in self.lines.iter().zip(COLORS.iter().cycle().copied()) {
            let points = points(line);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
                .label(&line.name)
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
