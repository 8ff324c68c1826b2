//! drover-e2e
