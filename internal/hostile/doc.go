// Package hostile makes archives that mean harm, for the tests of every way by which a foreign archive comes
// in: pull, load, import, import of a volume, cp in both directions.
//
//	canary := hostile.NewCanary(t)
//	for _, a := range hostile.Archives(canary.Dir) {
//		err := takeIn(a.Open())
//		if a.Layer == hostile.Refused && err == nil { … }
//		canary.Check(t)
//	}
//
// Each aims at the canary's directory, which must be as it was afterwards. What it may not do: know any room
// of the module, so that each can use it.
package hostile
