// Package metrics tells Prometheus what a node has and does. Each scrape reads what the parts of the node count, most
// of it for GetInfo and the log in any case, so that no figure is kept twice. Only what nobody else counts is noted
// here: how long upgrades and calls took (Timed).
//
// Labels have closed sets of values: what clients and backends name, such as rooms, events and namespaces, is in none.
// The table of docs/metrics.md has all metrics, and a test holds it against what a node tells.
package metrics
