//! Text, blob files and bundles: reading, writing, refusing.

mod blob_files;
mod bundles;
mod packages;
mod proto_models;
mod support;
mod text_corpus;
mod text_errors;
mod text_properties;
