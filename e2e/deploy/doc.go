// Package deploy tries what is in deploy/ as far as one machine can: the image without Docker, the compose file without
// its services, the chart without Kubernetes, the unit without systemd. `make test-deploy` runs it; FOYER_BIN names the
// binary.
package deploy
