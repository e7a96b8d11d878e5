package crd

// Generation is the generation of the definition that is served; 0 for none.
func (g *Registry) Generation(name string) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if k := g.kinds[name]; k != nil {
		return k.crd.Generation
	}
	return 0
}
