"""What people said of SR outputs: public sets and tables of scores, choices and marked regions, split by scene."""
