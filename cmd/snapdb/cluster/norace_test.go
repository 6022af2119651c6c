//go:build linux && !race

package cluster_test

// raceFlag builds the program as the test is built.
var raceFlag []string
