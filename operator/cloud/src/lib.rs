//! drover-cloud
