package web

import "strings"

// agentText names the browser or program of a User-Agent in a few words. It is what that program says of itself, and proves nothing.
func agentText(agent string) string {
	if agent == "" {
		return "not told"
	}
	first := func(names ...string) string {
		for i := 0; i < len(names); i += 2 {
			if strings.Contains(agent, names[i]) {
				return names[i+1]
			}
		}
		return ""
	}
	// What is derived from another names that one too, so the order counts.
	program := first("Edg", "Edge", "OPR/", "Opera", "Firefox/", "Firefox", "Chrome/", "Chrome", "Safari/", "Safari", "signalbox", "signalbox", "curl/", "curl")
	system := first("Android", "Android", "iPhone", "iPhone", "iPad", "iPad", "Windows", "Windows", "Mac OS X", "macOS", "CrOS", "ChromeOS", "Linux", "Linux")
	switch {
	case program == "":
		return agent
	case system == "":
		return program
	}
	return program + " on " + system
}
