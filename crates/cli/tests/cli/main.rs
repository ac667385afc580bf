//! The binary `orion` as a person meets it: what it prints where, and how it ends.

mod adapters;
mod artifact;
mod bench;
mod chat;
mod convert;
mod documentation;
mod errors;
mod estimate;
mod generation;
mod help;
mod inference;
mod lint;
mod mil;
mod models;
mod neural_engine;
mod programs_page;
mod readme;
mod shared;
mod support;
mod tokenize;
mod train;
mod two_devices;
