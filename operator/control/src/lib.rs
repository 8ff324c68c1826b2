//! drover-control
