"""Putting manifests on a Kubernetes cluster, waiting for the rollout, and going back when it fails."""
