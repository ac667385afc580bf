//! One file a verb.

pub(crate) mod artifact;
pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod compile;
pub(crate) mod convert;
pub(crate) mod devices;
pub(crate) mod doctor;
pub(crate) mod estimate;
pub(crate) mod eval;
pub(crate) mod finetune;
pub(crate) mod fuse;
pub(crate) mod init;
pub(crate) mod lint;
pub(crate) mod mil;
pub(crate) mod quickstart;
pub(crate) mod residency;
pub(crate) mod run;
mod subject;
pub(crate) mod tokenize;
pub(crate) mod train;
