"""Papers in float64 and the code of other projects, and what is compared with them. For `posx verify` and the tests."""
