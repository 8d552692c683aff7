"""What is deployed: images, monitoring, a balancer."""
