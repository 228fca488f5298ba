//! The console's pages, in a real browser.

mod browser;
mod driver;
mod first_start;
mod outage;
mod pages;
mod people;
mod problems;
mod scene;
mod secrets;
mod stage;
