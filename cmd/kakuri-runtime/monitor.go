package main

// monitorVerb has this program be the parent of a container of the command kakuri, which alone starts it so: no help lists it.
const monitorVerb = "monitor"
