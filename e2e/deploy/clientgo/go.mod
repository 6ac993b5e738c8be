// Helm asks a cluster by this module for what is there. The tests have no cluster, so these few types stand for hundreds of
// packages, which would take a minute to build.
module k8s.io/client-go

go 1.26.8

require k8s.io/apimachinery v0.37.0
