//! sdk-python
