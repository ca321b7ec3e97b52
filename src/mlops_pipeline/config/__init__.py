"""The settings: a pipeline's and a server's, each one file, frozen and checked."""
