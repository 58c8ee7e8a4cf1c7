//! The receiver while its process, its disk and its clients fail.
