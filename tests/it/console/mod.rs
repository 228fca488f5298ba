//! The console's pages, in a real browser.

mod browser;
mod driver;
mod first_start;
mod pages;
mod scene;
mod stage;
