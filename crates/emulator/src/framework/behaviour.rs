use super::artifact::Artifact;
use orion_ane::{Call, CallError, WeightFile};

/// What sources disagree on, or what differs between systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// Whether loaded programs describe themselves.
    pub describes: bool,
    /// Whether inputs and outputs are numbered by name; else as they are written.
    pub sorts_symbols: bool,
    /// Whether rows lie side by side; else at multiples of 64 bytes.
    pub packs_rows: bool,
    /// What becomes of weights that are put in the place of compiled ones.
    pub donor: Donor,
    /// What becomes of compiled files that the system's service has not compiled since it was
    /// asked to forget them, or that another process left.
    pub compiled_files: CompiledFiles,
    /// Whether unloading a model removes its directory, as two decompilations of the framework
    /// show.
    pub unloading_removes_files: bool,
    /// Whether loading again reads the weight files again. Four measurements say no, one project
    /// trains as if it were so.
    pub rereads_weight_files: bool,
    /// Whether programs that differ in the values of weights have one identifier.
    pub identifier_ignores_weights: bool,
    /// Whether runs read memory that the host has locked for reading. Nobody has published it.
    pub reads_locked_memory: bool,
    /// What comes of asking for the hardware's time.
    pub statistics: Statistics,
    /// Programs that a process can have loaded at the same time.
    pub loaded_programs: usize,
    /// The same of one connection to the system's service.
    pub loaded_per_client: usize,
    /// What connections are good for besides the one that all models share.
    pub own_clients: OwnClients,
    /// What becomes of instances of a program with files for its constants.
    pub instances: Instances,
    /// Compilations that one process can do.
    pub compilations: Option<usize>,
}

impl Default for Behaviour {
    /// What most measurements say.
    fn default() -> Self {
        Self {
            describes: true,
            sorts_symbols: true,
            packs_rows: false,
            donor: Donor::Used,
            compiled_files: CompiledFiles::Loaded,
            unloading_removes_files: true,
            rereads_weight_files: false,
            identifier_ignores_weights: false,
            reads_locked_memory: true,
            statistics: Statistics::Zeros,
            loaded_programs: 119,
            loaded_per_client: 85,
            own_clients: OwnClients::Work,
            instances: Instances::Refused,
            compilations: None,
        }
    }
}

/// What becomes of compiled files, as they were left by the compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompiledFiles {
    /// They are loaded, whoever had them compiled.
    Loaded,
    /// Those of another process are refused: reported by one project, whose program was signed
    /// otherwise.
    OwnOnly,
    /// They are refused.
    Refused,
    /// Those of another process are loaded, and other weights used.
    Mistaken,
}

/// What a connection is good for that a process opens for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnClients {
    /// The same as the one that all models share: measured by one project on an M4.
    Work,
    /// None is given.
    Missing,
    /// Nothing is loaded through it without an entitlement, as through one with restricted
    /// access.
    Refused,
    /// Runs succeed and write nothing.
    Silent,
}

/// What becomes of an instance of a program with a file for a constant. Nobody has published what
/// a Mac does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instances {
    /// The framework has no such classes.
    Missing,
    /// It is not loaded without an entitlement, as two decompilations of the service show.
    Refused,
    /// It is loaded with the weights of the program.
    Ignored,
    /// The file is used for a constant that is called by its name.
    Used,
}

/// What comes of asking for the hardware's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistics {
    /// The framework has no such methods.
    Missing,
    /// The time is zero, as two projects saw.
    Zeros,
    /// The time that the stand-in was at work.
    Times,
    /// Runs with such a request fail.
    Fail,
}

/// What becomes of weights in the place of another program's compiled ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Donor {
    /// They are used: measured for programs of one weight.
    Used,
    /// The first is used, the others stay the donor's.
    FirstOnly,
    /// None is used.
    Ignored,
    /// The program is not loaded.
    Refused,
}

impl Instances {
    /// What is loaded as an instance of a compiled program, with a file for a constant.
    pub(super) fn loaded(
        self,
        base: Artifact,
        weights: &WeightFile<'_>,
    ) -> Result<Artifact, CallError> {
        let refuse = |text: String| CallError::new(Call::LoadInstance, text);
        match self {
            Self::Missing => Err(CallError::new(Call::Open, "there is no class _ANEWeight")),
            Self::Refused => Err(refuse("Program load new instance error: No entitlement!".into())),
            Self::Ignored => Ok(base),
            Self::Used if !base.has_constant(weights.symbol) => {
                Err(refuse(format!("there is no weight {:?}", weights.symbol)))
            }
            Self::Used => base.with_weights(weights.file).map_err(refuse),
        }
    }
}

impl Donor {
    /// What is loaded, of a patched program and the donor's own.
    pub(super) fn loaded(
        self,
        patched: Artifact,
        donor: Option<Artifact>,
    ) -> Result<Artifact, String> {
        let donor = donor.ok_or("the donor is not known");
        match self {
            Self::Used => Ok(patched),
            Self::FirstOnly => patched.with_others_of(&donor?),
            Self::Ignored => Ok(donor?),
            Self::Refused => Err("the compiled program is not signed".to_owned()),
        }
    }
}
