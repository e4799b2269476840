"""FSDP student: what its optimiser steps on, and its checkpoints."""
