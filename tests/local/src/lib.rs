//! drover-local
