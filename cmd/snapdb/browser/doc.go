// Package browser tests the panel as people use it: in a real Chromium, with the
// built program running as one process for each node. Nothing imports it.
//
// There is one Chromium for all tests, and a tab for each. A test ends by looking at
// what the tab's console said: no script may have failed, and no page may have tried
// what its content security policy forbids.
//
// Where no Chromium is installed the tests say so and do nothing, unless
// SNAPDB_REQUIRE_BROWSER is 1.
package browser
