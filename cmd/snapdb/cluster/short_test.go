//go:build linux && !campaign

package cluster_test

// campaignLasts is how long a campaign goes on that is not told otherwise: for a
// number of rounds.
const campaignLasts = 0

// longFaults are none, without the build tag campaign.
func longFaults() []fault { return nil }
