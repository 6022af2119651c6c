// Package processtest runs the program as processes of their own, for tests that send
// them signals and look at what they say.
package processtest
