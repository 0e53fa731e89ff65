package engine

func thief(args []string) int     { return 0 }
func opener(args []string) int    { return 0 }
func elsewhere(args []string) int { return 0 }
