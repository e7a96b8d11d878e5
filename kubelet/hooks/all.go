package hooks

// podSteps lists the steps of making a pod ready, in order.
func podSteps(s *Steps) []PodStep {
	return []PodStep{
		directoriesStep{s},
		volumesStep{s},
		devicesStep{s},
		sandboxStep{s},
		networkStep{s},
		hostPortsStep{s},
		hostFilesStep{s},
	}
}

// containerSteps lists the steps of starting a container, in order.
func containerSteps(s *Steps) []ContainerStep {
	return []ContainerStep{
		imageStep{s},
		definitionStep{s},
		createStep{s},
		startStep{s},
		postStartStep{s},
	}
}
