//! Everything `orion-compile` promises, checked against the definition of the ops.

mod gradient_checks;
mod gradient_promises;
mod gradients;
mod interpreter;
mod networks;
mod optimizer;
mod partition;
mod passes;
mod random;
mod random_gradients;
