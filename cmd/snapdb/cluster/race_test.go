//go:build linux && race

package cluster_test

// raceFlag builds the program as the test is built: a race in it makes it exit
// with a code that no test expects.
var raceFlag = []string{"-race"}
