"""The paper's figures and a page of them, from the logs of one's own runs: ``verl-vaopd report``."""
