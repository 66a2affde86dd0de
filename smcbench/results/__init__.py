"""Records, batteries, submissions, the leaderboard, comparisons: what can be read without torch."""
