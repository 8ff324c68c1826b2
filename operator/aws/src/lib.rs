//! drover-aws
