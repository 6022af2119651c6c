// Package cluster tests snapdb as its users run it: the built program, started
// as one process for each node, on real ports and real files, with real signals
// and full disks. Nothing imports it.
//
// A test builds a cluster, does harm to it, and ends with finish: all nodes are
// at the same position, answer the same, and hold the same in their files.
package cluster
