"""What the tests of the chart are written with: a cluster, a namespace, a release, a load, and a table."""
