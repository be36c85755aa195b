"""A Kubernetes node of one's own, made of real programs in namespaces of this machine. `node.py` is its front."""
