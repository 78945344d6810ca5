"""The process for people: REST, WebSocket, metrics and a plain page over what the agent on this host says. Never root."""
